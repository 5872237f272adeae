# One image; web, worker, beat and migrate differ by command only (see compose.yaml).
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --quiet -r requirements.txt
ENV PATH=/opt/venv/bin:$PATH
COPY manage.py ./
COPY annotation_site annotation_site
COPY apps apps
COPY templates templates
COPY static static
COPY locale locale
# The secrets of this step are random, belong to no deployment and end with the step: nothing of them is in the image.
RUN python manage.py compile_catalogues \
 && POLYPHONY_ENVIRONMENT=production STATIC_ROOT=/app/staticfiles ALLOWED_HOSTS=build.invalid \
    SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    PSEUDONYM_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    PANEL_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    IDENTITY_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    DATABASE_URL=postgres://build@127.0.0.1/build REDIS_URL=redis://127.0.0.1/0 \
    python manage.py collectstatic --noinput --verbosity 0 --ignore redoc \
 && rm -rf var

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /app polyphony && install -d -o polyphony /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER polyphony
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    POLYPHONY_ENVIRONMENT=production POLYPHONY_VAR_DIR=/data STATIC_ROOT=/app/staticfiles
VOLUME /data
EXPOSE 8000
# Through the same door as everybody else: the Host header is the first name of ALLOWED_HOSTS.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:8000/healthz/', headers={'Host': os.environ['ALLOWED_HOSTS'].split(',')[0].strip(' .')}), timeout=4)"]
# The log of requests leaves out query strings and referrers, since panels put a person's identity there.
CMD ["gunicorn", "annotation_site.wsgi", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", "--threads", "8", "--max-requests", "5000", "--max-requests-jitter", "500", "--no-control-socket", "--access-logfile", "-", "--access-logformat", "%(t)s %(m)s %(U)s %(s)s %(B)s %(M)sms"]
