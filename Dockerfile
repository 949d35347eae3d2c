# docker build -t evalsuite .                          vLLM for CUDA: run with --gpus all --ipc=host
# docker build -t evalsuite:cpu --build-arg DEVICE=cpu .
# docker run --rm --gpus all --ipc=host -v $PWD:/work -v evalsuite-cache:/cache evalsuite run ckpt/ --judge judge/
#
# vLLM's wheels bring CUDA's libraries, so the image needs none of NVIDIA's: the driver comes from the host.
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim-bookworm
ARG DEVICE=gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Triton and torch.compile call a C++ compiler at run time.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /dist /dist
RUN python -m pip install --no-cache-dir /dist/*.whl \
    && evalsuite setup "--${DEVICE}" --extra train \
    && rm -rf /dist /root/.cache
# Data, checkpoints and compiled kernels outlive the container. Writable for any user that docker run --user names.
ENV EVALSUITE_CACHE=/cache/evalsuite HF_HOME=/cache/huggingface VLLM_CACHE_ROOT=/cache/vllm HOME=/cache/home
RUN mkdir -p /cache/evalsuite /cache/huggingface /cache/vllm /cache/home /work && chmod -R a+rwX /cache /work
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["evalsuite"]
CMD ["--help"]
