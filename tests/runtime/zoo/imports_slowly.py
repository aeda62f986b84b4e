"""An application whose import takes a minute, as one that loads its model there may."""

import time

time.sleep(60)
app = None
