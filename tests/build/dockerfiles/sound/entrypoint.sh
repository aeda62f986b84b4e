#!/bin/sh
set -e
echo starting
exec python server.py
