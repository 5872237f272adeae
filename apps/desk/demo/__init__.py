"""What `manage.py demo` is made of: the processes it starts and the rows it prepares."""
