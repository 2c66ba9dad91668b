"""Run exported files, each in its own runtime. Nothing here requires torch unless the file's runtime does."""
