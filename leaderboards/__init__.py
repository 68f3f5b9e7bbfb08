"""Records of runs and the tables rendered from them; works without torch and imports nothing else of ours."""
