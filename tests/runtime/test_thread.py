import asyncio

import pytest

from cpr_kit.runtime.thread import ModelExit, ModelThread


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_no_exception_of_the_author_ends_the_models_thread(kind):
    async def bad():
        raise kind

    async def good():
        return 1

    async def main():
        thread = ModelThread()
        with pytest.raises(ModelExit):
            await asyncio.wait_for(thread.run(bad), 5)
        return await asyncio.wait_for(thread.run(good), 5)

    assert asyncio.run(main()) == 1


def test_cancelling_the_caller_cancels_the_models_code():
    seen = []

    async def slow():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        thread = ModelThread()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(thread.run(slow), 0.1)
        while not seen:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 5))
    assert seen == ["cancelled"]
