#!/bin/sh
set -e
cd /app
if [ -f prestart.sh ]; then . ./prestart.sh; fi
exec python -m uvicorn --host 0.0.0.0 --port "${PORT:-80}" main:app
