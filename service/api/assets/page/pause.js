/** Waits; rejects as soon as the signal is aborted. */
export function pause(milliseconds, signal = new AbortController().signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(end, milliseconds, resolve);
    const abort = () => end(reject);
    function end(settle) {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      settle(signal.reason);
    }
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}
