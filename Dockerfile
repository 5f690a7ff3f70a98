# Four images from one file:
#   docker build --target api .                  API, beat, Flower, migrations: no ML framework
#   docker build --target worker-cpu .           what trains on the CPU: PyTorch and TensorFlow, no CUDA
#   docker build --target worker-torch .         PyTorch with CUDA 13: NVIDIA driver 580 or newer
#   docker build --target worker-tensorflow .    TensorFlow with CUDA 12: NVIDIA driver 525.60.13 or newer
# One framework per GPU image: the CUDA libraries of the two wheels differ, and the second one installed breaks the first.
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

FROM base AS worker-cpu
# pip reads it: an index with wheels of torch that have no CUDA libraries, which would be gigabytes for nothing.
ARG PIP_EXTRA_INDEX_URL
RUN pip install -c constraints.txt '.[torch,tensorflow,s3]'
USER nightshift
WORKDIR /data
CMD ["nightshift", "worker", "--device", "cpu"]

FROM base AS worker-torch
# pip reads it: for an older driver, an index with wheels of torch for an older CUDA.
ARG PIP_EXTRA_INDEX_URL
RUN pip install -c constraints.txt '.[torch,s3]'
ENV NIGHTSHIFT_FRAMEWORKS=torch
USER nightshift
WORKDIR /data
CMD ["nightshift", "worker", "--device", "gpu"]

FROM base AS worker-tensorflow
RUN pip install -c constraints.txt '.[tensorflow-gpu,s3]'
ENV NIGHTSHIFT_FRAMEWORKS=tensorflow
USER nightshift
WORKDIR /data
CMD ["nightshift", "worker", "--device", "gpu"]
