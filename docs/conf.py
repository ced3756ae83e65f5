from importlib.metadata import version as installed_version

project = "django-hookflow"
author = "django-hookflow contributors"
copyright = "2026, django-hookflow contributors"
release = installed_version("django-hookflow")
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"django-hookflow {release}"
