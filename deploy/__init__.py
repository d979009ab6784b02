"""What runs Saferoom on a server: the installer, units, and the settings of nginx and gunicorn."""
