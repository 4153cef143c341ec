FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE config.yaml ./
COPY checks checks
COPY contracts contracts
COPY monitor monitor
RUN python -m venv /opt/driftd \
 && /opt/driftd/bin/pip install --no-cache-dir -c constraints.txt '.[evidently,sql,delta]'

FROM python:3.12-slim
RUN useradd --system --create-home --uid 10001 driftd && mkdir /data && chown driftd /data
COPY --from=build /opt/driftd /opt/driftd
ENV PATH=/opt/driftd/bin:$PATH DRIFTD_CONFIG=/etc/driftd/config.yaml DO_NOT_TRACK=1 PYTHONUNBUFFERED=1
USER driftd
WORKDIR /data
EXPOSE 8321
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8321/readyz', timeout=4)"]
ENTRYPOINT ["driftd"]
CMD ["run"]
