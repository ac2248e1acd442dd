"""What the page does by itself: limits to move, code to copy, folded figures, narrow screens. No library."""

SCRIPT = """
const $ = (selector, root = document) => [...root.querySelectorAll(selector)];
const plots = root => $('.plotly-graph-div', root);
const resize = root => plots(root).forEach(plot => window.Plotly && Plotly.Plots.resize(plot));

// figures in a folded part have no width until it is opened
$('details').forEach(part => part.addEventListener('toggle', () => part.open && resize(part)));

$('button[data-view]').forEach(button => button.addEventListener('click', () => {
  Plotly.relayout(button.dataset.plot, JSON.parse(button.dataset.view));
  $('button[data-view]', button.parentNode).forEach(other => other.classList.toggle('on', other === button));
}));

// on a narrow screen numbers and names that would lie over each other are left out
const thin = (plot, trace, place) => {
  const room = !narrow.matches;
  if (trace.type === 'heatmap') {
    Plotly.restyle(plot, {texttemplate: trace.text && room ? '%{text}' : '', showscale: room}, [place]);
    Plotly.relayout(plot, {'xaxis.showticklabels': room});
  } else if (trace.text && trace.name && trace.showlegend !== false) {
    Plotly.restyle(plot, {mode: room ? 'markers+text' : 'markers'}, [place]);
  }
};

// legends below the plot where the screen is narrow: above it they would take its place
const narrow = window.matchMedia('(max-width: 640px)');
const fit = () => plots(document).forEach(plot => {
  if (!plot.layout || !plot.layout.legend) return;
  plot.dataset.height = plot.dataset.height || plot.layout.height;
  const lines = plot.data.filter(trace => trace.showlegend !== false && trace.name).length;
  const below = {'legend.y': -0.16, 'legend.yanchor': 'top', 'height': +plot.dataset.height + 20 * lines};
  const above = {'legend.y': 1.02, 'legend.yanchor': 'bottom', 'height': +plot.dataset.height};
  const layout = narrow.matches ? below : above;
  plot.parentNode.style.height = layout.height + 'px';
  Plotly.relayout(plot, layout);
  plot.data.forEach((trace, place) => thin(plot, trace, place));
});
narrow.addEventListener('change', fit);
window.addEventListener('load', () => narrow.matches && fit());

const code = document.getElementById('code');
$('button[data-load]').forEach(button => button.addEventListener('click', () => {
  code.textContent = button.dataset.load;
  code.parentNode.scrollIntoView({behavior: 'smooth', block: 'center'});
}));
$('button.copy').forEach(button => button.addEventListener('click', async () => {
  const text = document.getElementById(button.dataset.of).textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = 'copied'; }
  catch { getSelection().selectAllChildren(document.getElementById(button.dataset.of)); }
  setTimeout(() => { button.textContent = 'copy'; }, 1500);
}));

// limits that are moved: what is beyond them fades, the best within them is named
const limits = $('input[data-limit]'), verdict = document.getElementById('verdict');
const apply = () => {
  const rows = $('tr[data-model]');
  const within = rows.filter(row => {
    const fits = limits.every(input => {
      const value = row.dataset[input.dataset.limit];
      return +input.value >= +input.max || value === undefined || +value <= +input.dataset.at;
    });
    row.classList.toggle('beyond', !fits);
    return fits && row.dataset.loss !== undefined;
  });
  const best = within.sort((a, b) => a.dataset.loss - b.dataset.loss)[0];
  verdict.textContent = best ? best.dataset.words : 'No exported model is within these limits.';
  rows.forEach(row => row.classList.toggle('best', row === best));
  const faded = new Set(rows.filter(row => row.classList.contains('beyond')).map(row => row.dataset.model));
  plots(document).filter(plot => plot.data).forEach(plot => plot.data.forEach((trace, place) => {
    if (trace.meta !== 'models') return;
    const opacity = trace.customdata.map(model => faded.has(String(model)) ? 0.2 : 1);
    Plotly.restyle(plot, {'marker.opacity': [opacity]}, [place]);
  }));
};
limits.forEach(input => input.addEventListener('input', () => {
  const steps = JSON.parse(input.dataset.steps), step = steps[input.value];
  input.dataset.at = step[0];
  input.parentNode.querySelector('output').textContent = step[1];
  apply();
}));
"""
"""A slider moves over the values that the exported models have, and past them: no limit."""
