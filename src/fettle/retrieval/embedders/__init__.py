"""One file per kind of embedder beside the packaged one."""
