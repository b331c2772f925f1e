# The server and its worker (docker-compose.yml). Participants' images are made by `tiltyard new`.
FROM python:3.11-slim-bookworm

WORKDIR /opt/tiltyard
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY attacks attacks
COPY models models
COPY bench bench
COPY server server
COPY kit kit
COPY docs docs
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgresql]"

ENTRYPOINT ["tiltyard"]
CMD ["serve"]
