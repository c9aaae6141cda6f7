// Polls whether the page has changed and redraws it then. A poll costs about a millisecond;
// drawing costs a hundred, in the browser and on the server.

export default function ({ data, parentElement, setTriggerValue }) {
  const pulse = (parentElement.pulse ??= { drawing: 0 });
  clearTimeout(pulse.timer);
  const drawing = ++pulse.drawing, drawnAt = performance.now();
  const age = () => (performance.now() - drawnAt) / 1000;
  const schedule = (seconds) => { pulse.timer = setTimeout(poll, 1000 * seconds); };

  async function poll() {
    let changed = false;
    try {
      const response = await fetch(data.address, { cache: "no-store" });
      changed = response.ok && (await response.json()).changed;
    } catch {} // the server is restarting; its page polls by itself
    if (drawing !== pulse.drawing) return; // redrawn meanwhile
    if (changed || age() >= data.maxAge) {
      const wait = 1000 * Math.max(0, data.minAge - age());
      pulse.timer = setTimeout(() => setTriggerValue("due", true), wait);
      // In case the run is interrupted.
      pulse.fallback = setTimeout(() => drawing === pulse.drawing && schedule(0), 5000);
    } else schedule(data.interval);
  }

  schedule(data.interval);
  return () => { pulse.drawing++; clearTimeout(pulse.timer); };
}
