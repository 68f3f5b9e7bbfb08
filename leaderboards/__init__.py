"""Records of runs and the tables rendered from them; works without torch; of ours it imports `data_prep.atomic`."""
