# One image for the four services of docker-compose.yml; each runs one of the rooms.
FROM python:3.11-slim

# torch.compile makes kernels with a C++ compiler; without one training warns and is slower.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

WORKDIR /octavo
ENV DS_BUILD_OPS=0 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# torch first and pinned, since DeepSpeed's build reads the torch that is there (see the Makefile).
COPY constraints.txt .
RUN pip install -c constraints.txt setuptools wheel && pip install -c constraints.txt torch \
    && pip install -c constraints.txt --no-build-isolation deepspeed

COPY pyproject.toml README.md ./
COPY trainer trainer
COPY serving serving
COPY backend backend
COPY dashboard dashboard
COPY benchmarks benchmarks
RUN pip install -c constraints.txt --no-build-isolation -e .

RUN useradd --create-home octavo && mkdir /var/lib/octavo && chown octavo /var/lib/octavo
USER octavo
ENV OCTAVO_HOME=/var/lib/octavo
VOLUME /var/lib/octavo
