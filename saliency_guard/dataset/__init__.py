"""Whole files of records scored: read, scored in shards, and written so that an interrupted run goes on."""
