# Two images from one file:
#   docker build --target api .       API, beat, Flower, migrations: no ML framework
#   docker build --target worker .    what trains: PyTorch and TensorFlow
FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The same user id in every container: they share the data volume.
RUN groupadd --gid 10001 nightshift \
 && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin nightshift \
 && install -d -o nightshift -g nightshift /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nightshift nightshift
COPY shared shared
COPY api api
COPY worker worker
ENV NIGHTSHIFT_DATA_DIR=/data NIGHTSHIFT_LOG_FORMAT=json

FROM base AS api
RUN pip install -c constraints.txt '.[server,s3]'
USER nightshift
WORKDIR /data
CMD ["nightshift", "api"]

FROM base AS worker
RUN pip install -c constraints.txt '.[torch,tensorflow,s3]'
USER nightshift
WORKDIR /data
CMD ["nightshift", "worker"]
