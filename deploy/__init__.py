"""What runs Saferoom on a machine of its own: installer, units, settings of nginx and gunicorn."""
