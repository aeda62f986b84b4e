"""The ceiling: an ASGI application that reads the body and answers {}, under uvicorn with uvloop and httptools."""

import os

import uvicorn


async def app(scope, receive, send) -> None:
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning")
