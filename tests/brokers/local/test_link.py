"""A worker's connection to the broker process: calls, deadlines and ends, on a fake one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
