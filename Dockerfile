# syntax=docker/dockerfile:1
# The API, the dashboard and the migrations: no torch in here.
FROM python:3.11-slim

# Two heaps: glibc's eight per core keep what threads of ended pages have freed.
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 MALLOC_ARENA_MAX=2

# The same number in both images: they share the volume of artefacts.
RUN useradd --uid 10001 --create-home ucurve && install --directory --owner ucurve --group ucurve /artefacts
WORKDIR /app

# Packages first, so that a change of our code does not install them again.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; x = p['optional-dependencies']; \
print(*p['dependencies'], *x['server'], *x['dashboard'], sep=chr(10))" > /tmp/requirements.txt \
    && pip install --constraint constraints.txt setuptools --requirement /tmp/requirements.txt

COPY api api
COPY dashboard dashboard
COPY db db
COPY ucurve ucurve
COPY worker worker
RUN pip install --no-deps --no-build-isolation --editable . && python -m compileall -q .

USER 10001
