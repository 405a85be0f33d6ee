# chiaroscuro with its live page:
#
#   docker build -t chiaroscuro .
#   docker run --rm -v "$PWD:/work" chiaroscuro explain photo.jpg
#   docker run --rm -p 127.0.0.1:8000:8000 chiaroscuro serve --host 0.0.0.0
#
# pip's default build of PyTorch is for NVIDIA GPUs: docker run --gpus all. For a smaller image,
# --build-arg PIP_EXTRA_INDEX_URL=ADDRESS names PyTorch's index of builds for processors.
FROM python:3.11-slim

ARG EXTRAS=data,web
ARG PIP_EXTRA_INDEX_URL

COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md /build/
COPY src /build/src
RUN pip install --no-cache-dir --constraint /build/constraints.txt "/build[${EXTRAS}]" \
    && rm -r /build \
    && useradd --create-home --uid 1000 someone

USER someone
WORKDIR /work
ENTRYPOINT ["chiaroscuro"]
CMD ["--help"]
