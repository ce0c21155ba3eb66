"""The process that computes for 3D Slicer and talks to it over its own standard streams.

`stream` is how messages look as bytes and `server` the process; both, up to the first computation, need nothing but
Python itself, so that a worker whose packages are missing can say so. `messages` are requests and outcomes as messages,
`kinds` what computes them, and `answers` reads what the worker says, on the other side.

Every message is an object with a ``type``; what answers a request has its ``id``.

    to the worker       models; import (path, overwrite); remove (name); devices; run (request, see `messages`);
                        cancel (id of a run); stop
    from the worker     hello (protocol, version, python, torch, missing), at once and once; models (models);
                        devices (devices); progress (see `progress.Step`); result (outcome, see `messages`);
                        error (message, fault); cancelled

Requests are done one after the other; only ``cancel`` and ``stop`` overtake them. The worker ends when its input does.
"""
