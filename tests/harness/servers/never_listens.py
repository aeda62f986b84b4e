import time

print("waiting for nobody")
time.sleep(600)
