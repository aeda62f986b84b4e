from .models import Model as Doubler  # noqa: F401
