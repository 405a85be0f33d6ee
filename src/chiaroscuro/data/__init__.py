"""Folders, Parquet files and data set names as a stream of images with labels and stable ids."""
