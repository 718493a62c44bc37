"""Methods of discovery, one per file; the file's name is the method's. See ``interp.discovery.method``."""
