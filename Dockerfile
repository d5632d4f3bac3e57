# The app, and the command line, as an account without rights. See docs/server.md.
# Base image and libraries are those of the day of the build: build again for security fixes.

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The index of torch: this one holds the builds without CUDA, which are small. Empty: those of the package index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/shpeft
ENV PATH=/opt/shpeft/bin:$PATH
RUN pip install --upgrade pip && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml README.md LICENSE /source/
COPY shpeft /source/shpeft
COPY app /source/app
COPY assets /source/assets
RUN pip install '/source[archive,dicom,oidc]'

FROM python:3.12-slim
COPY --from=build /opt/shpeft /opt/shpeft
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin shpeft \
    && install --directory --owner 10001 --group 10001 --mode 0700 /data /data/runs /data/cache /data/watched
ENV PATH=/opt/shpeft/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    SHPEFT_RUNS=/data/runs \
    SHPEFT_CACHE=/data/cache \
    HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /data
EXPOSE 8501
ENTRYPOINT ["shpeft"]
# The container's own loopback: useful with a command of the command line. compose.yaml has the one for people.
CMD ["ui"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
