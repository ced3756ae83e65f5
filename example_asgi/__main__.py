"""``python3 example_asgi``: the demo. Needs nothing but a Python; ``--help`` tells the rest."""

import sys

import bootstrap

if __name__ == "__main__":
    wsgi = "--wsgi" in sys.argv[1:]
    if wsgi and bootstrap.WINDOWS:
        sys.exit(
            "--wsgi: gunicorn does not run on Windows; without --wsgi the demo is served by uvicorn"
        )
    bootstrap.enter(extras=["devserver"], groups=["wsgi"] if wsgi else [])
    from demo.show import main  # what it imports exists only from here on

    sys.exit(main())
