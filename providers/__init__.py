"""Video providers: one file each, pure request builders and answer readers around a given httpx client."""
