"""Run exported files, each in its own runtime. Nothing here needs torch unless the file's runtime does."""
