# One image for every service, the gateway and the commands; which one it is, its command says.
FROM python:3.13-slim
RUN useradd --system --create-home pavane && install --directory --owner=pavane /kept
WORKDIR /pavane
COPY requirements.runtime.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY api api
COPY contracts contracts
COPY choreography choreography
COPY schemas schemas
COPY infra infra
COPY pavane pavane
ENV PYTHONPATH=/pavane PYTHONUNBUFFERED=1
# Where commands write what is to be kept.
WORKDIR /kept
USER pavane
ENTRYPOINT ["python", "-m"]
CMD ["pavane", "--help"]
