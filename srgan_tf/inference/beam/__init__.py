"""Upscaling of many photos: an Apache Beam pipeline from photos in storage to larger ones there.

    match ──► join with existing results ──► read ──► RunInference ──► write
                    │ clashing names           │ damaged files          │ not writable
                    └──────────────────────────┴───────► failures.jsonl ◄┘

`job` runs a pipeline, `pipeline` has its steps, `storage` finds and copies files, `progress` shows
how many are done, and `worker` is the program of a worker process. Only `worker` can be imported
without Apache Beam.
"""
