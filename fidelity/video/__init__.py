"""Video: decoding, enlarging scene by scene, encoding in segments that an interrupted run resumes from."""
