# grbench on a CPU; docs/trained-models.md has the commands.
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1

WORKDIR /opt/grbench
# The packages first: the code changes more often.
COPY requirements.lock ./
# Where PyTorch's wheels for a CPU are; without it torch comes with its CUDA libraries, which are gigabytes.
ARG PIP_EXTRA_INDEX_URL
RUN python -m pip install --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY benchmarks ./benchmarks
COPY data_prep ./data_prep
COPY grbench ./grbench
COPY leaderboards ./leaderboards
COPY models ./models
# Editable, as `make setup` does it: records quote the lock that lies beside the code.
RUN python -m pip install --no-build-isolation --no-deps --editable .

# There is no git here; records quote the commit that they are told.
ARG GRBENCH_COMMIT
ENV GRBENCH_COMMIT=$GRBENCH_COMMIT

RUN useradd --create-home --uid 1000 grbench && install --directory --owner grbench /work
# By number, which says that it is not root where nobody looks into the image.
USER 1000
# What is read and made lies here: mount a folder.
WORKDIR /work
ENTRYPOINT ["grbench"]
CMD ["--help"]
