// Asks whether the page would be drawn otherwise now, and has it drawn again then. Asking costs a millisecond; drawing costs
// a hundred of them, here and on the server.

export default function ({ data, parentElement, setTriggerValue }) {
  const pulse = (parentElement.pulse ??= { drawing: 0 });
  clearTimeout(pulse.timer);
  const mine = ++pulse.drawing, drawn = performance.now();
  const age = () => (performance.now() - drawn) / 1000;
  const again = (seconds) => { pulse.timer = setTimeout(ask, 1000 * seconds); };

  async function ask() {
    let changed = false;
    try {
      const answer = await fetch(data.address, { cache: "no-store" });
      changed = answer.ok && (await answer.json()).changed;
    } catch {} // the server is being started again: its page asks by itself
    if (mine !== pulse.drawing) return; // drawn again meanwhile
    if (changed || age() >= data.oldest) {
      pulse.timer = setTimeout(() => setTriggerValue("due", true), 1000 * Math.max(0, data.youngest - age()));
      pulse.fallback = setTimeout(() => mine === pulse.drawing && again(0), 5000); // a run that was broken off
    } else again(data.every);
  }

  again(data.every);
  return () => { pulse.drawing++; clearTimeout(pulse.timer); };
}
