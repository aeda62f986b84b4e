FROM python:3.11-slim
COPY entry.py model.txt /srv/
ENTRYPOINT ["python3", "/srv/entry.py"]
