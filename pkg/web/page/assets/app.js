// What the pages do beyond links and forms: plots, previews, questions before what cannot be taken back, and a line when
// the connection is lost. Everything else is the server's: it sends the pieces that changed, and htmx puts them in.
(() => {
	'use strict';
	const me = document.currentScript.dataset;
	const $ = (what, inside = document) => inside.querySelector(what);
	const all = (what, inside = document) => [...inside.querySelectorAll(what)];

	const loaded = {};
	const load = (src) => loaded[src] ??= new Promise((yes, no) => {
		const s = document.createElement('script');
		s.src = src;
		s.onload = yes;
		s.onerror = () => { delete loaded[src]; no(new Error('load ' + src)); };
		document.head.append(s);
	});

	// The page is seen first: what makes it live comes behind the first picture of it.
	const painted = new Promise((yes) => requestAnimationFrame(() => setTimeout(yes)));
	painted.then(() => load(me.htmx));

	// The connection.
	const stale = $('#stale');
	document.addEventListener('htmx:sse:after:connection', () => { stale.hidden = true; });
	document.addEventListener('htmx:sse:error', () => { stale.hidden = document.hidden; });

	// Questions: the server's own page, in a dialog.
	const ask = $('#ask');
	document.addEventListener('htmx:after:swap', () => {
		if (ask.firstElementChild && !ask.open) ask.showModal();
	});
	ask.addEventListener('close', () => ask.replaceChildren());
	document.addEventListener('click', (e) => {
		const close = e.target.closest('[data-close]');
		const box = close && close.closest('dialog');
		if (box) { e.preventDefault(); box.close(); }
	});

	// Plots.
	const say = {
		bits: (v) => scaled(v, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s']),
		bytes: (v) => scaled(v, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']),
	};
	function scaled(v, units) {
		let i = 0;
		while (v >= 999.5 && i < units.length - 1) { v /= 1000; i++; }
		return (i && v < 9.95 ? v.toFixed(1) : v.toFixed(0)) + '\u00a0' + units[i];
	}
	const box = $('.plots');
	if (box) plots(box);
	async function plots(box) {
		const style = document.createElement('link');
		style.rel = 'stylesheet';
		style.href = me.plotstyle;
		document.head.append(style);
		await painted;
		await load(me.plot);
		const spans = $('.spans'), charts = [];
		let long = false, step = 1, most = 300;
		spans.hidden = false;
		for (const el of all('.plot', box)) {
			const head = el.appendChild(document.createElement('p'));
			head.className = 'plot-head';
			const names = el.dataset.names.split('|'), values = names.map((n) => {
				const s = head.appendChild(document.createElement('span'));
				s.append(n + ' ');
				return s.appendChild(document.createElement('strong'));
			});
			charts.push({el, values, columns: el.dataset.columns.split(' ').map(Number), say: say[el.dataset.unit], u: null, data: null});
		}
		const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
		const width = (c) => Math.max(c.el.clientWidth, 100);
		function draw(c) {
			c.u?.destroy();
			const soft = colour('--soft'), grid = colour('--grid'), font = '12px system-ui, sans-serif';
			const axis = {stroke: soft, font, grid: {stroke: grid, width: 1}, ticks: {show: false}};
			const line = (n) => ({stroke: () => colour('--plot' + n), width: 1.5, points: {show: false}, fill: c.columns.length === 1 ? colour('--plot1') + '1f' : undefined, spanGaps: false});
			c.u = new uPlot({
				width: width(c), height: 124, legend: {show: false}, padding: [10, 6, 0, 0],
				cursor: {y: false, points: {size: 6}, drag: {x: false, y: false}},
				scales: {y: {range: (u, lo, hi) => [0, Math.max(hi * 1.1, 1e6)]}},
				axes: [{...axis, size: 24, space: 70, values: (u, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString([], {hour: '2-digit', minute: '2-digit', hour12: false}))},
					{...axis, size: 74, space: 34, values: (u, ticks) => ticks.map((v) => v ? c.say(v) : '0')}],
				series: [{}, ...c.columns.map((_, i) => line(i + 1))],
				hooks: {setLegend: [(u) => tell(c, u.cursor.idx)]},
			}, c.data, c.el);
			tell(c, null);
		}
		function tell(c, i) {
			const n = c.data[0].length;
			c.values.forEach((el, s) => {
				const v = n ? c.data[s + 1][i ?? n - 1] : null;
				el.textContent = v == null ? '–' : c.say(v);
			});
		}
		async function fill() {
			const url = box.dataset.series + (box.dataset.series.includes('?') ? '&' : '?') + 'span=' + (long ? 'long' : 'short');
			const answer = await fetch(url);
			if (!answer.ok) return;
			const got = await answer.json();
			step = got.step;
			most = long ? 720 : 300;
			const n = got.values[0]?.length ?? 0;
			const times = Array.from({length: n}, (_, i) => got.end - (n - 1 - i) * step);
			for (const c of charts) {
				c.data = [times.slice(), ...c.columns.map((k) => got.values[k] ?? [])];
				draw(c);
			}
		}
		await fill();
		$('#stream')?.addEventListener('sample', (e) => {
			const [at, ...values] = JSON.parse(e.detail.data);
			for (const c of charts) {
				if (!c.data) continue;
				const times = c.data[0], last = times[times.length - 1] ?? 0;
				if (at - last < step) continue;
				times.push(at);
				c.columns.forEach((k, i) => c.data[i + 1].push(values[k] ?? null));
				if (times.length > most) c.data.forEach((d) => d.shift());
				c.u.setData(c.data);
				tell(c, c.u.cursor.idx);
			}
		});
		for (const b of all('button', spans)) b.addEventListener('click', () => {
			long = b.dataset.span === 'long';
			all('button', spans).forEach((x) => x.setAttribute('aria-pressed', x === b));
			fill();
		});
		new ResizeObserver(() => charts.forEach((c) => c.u && c.u.width !== width(c) && c.u.setSize({width: width(c), height: 124}))).observe(box);
		matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach((c) => c.data && draw(c)));
	}

	// Previews. A part ends, and the next one begins: the preview goes on with it.
	function preview(stage, room) {
		const url = new URL('/preview?name=' + encodeURIComponent(room), location).href;
		const video = document.createElement('video');
		video.muted = video.autoplay = video.controls = video.playsInline = true;
		video.setAttribute('aria-label', room);
		stage.append(video);
		let player = null, over = false, timer = 0, tries = 0;
		const drop = () => {
			player?.destroy();
			player = null;
			video.removeAttribute('src');
		};
		const again = () => {
			if (over) return;
			drop();
			if (++tries > 5) { fail(); return; }
			timer = setTimeout(start, 700 * tries);
		};
		const fail = () => {
			if (over) return;
			stop();
			const p = stage.appendChild(document.createElement('p'));
			p.className = 'failed';
			p.setAttribute('role', 'alert');
			p.textContent = me.failed;
		};
		async function start() {
			const head = await fetch(url, {method: 'HEAD'}).catch(() => null);
			if (over) return;
			if (!head || !head.ok) { again(); return; }
			const kind = {'video/x-flv': 'flv', 'video/mp2t': 'mpegts'}[head.headers.get('Content-Type')];
			if (!kind) {
				video.src = url;
				video.play().catch(() => {});
				return;
			}
			await load(me.player).catch(fail);
			if (over || !window.mpegts?.isSupported()) { fail(); return; }
			mpegts.LoggingControl.enableAll = false;
			player = mpegts.createPlayer({type: kind, url, isLive: true}, {enableWorker: false, liveBufferLatencyChasing: true, liveBufferLatencyMaxLatency: 8, liveBufferLatencyMinRemain: 2, lazyLoad: false, autoCleanupSourceBuffer: true});
			player.on(mpegts.Events.ERROR, again);
			player.on(mpegts.Events.LOADING_COMPLETE, () => { timer = setTimeout(again, 1500); });
			player.attachMediaElement(video);
			player.load();
			video.play().catch(() => {});
		}
		video.addEventListener('timeupdate', () => { if (video.currentTime > 1) tries = 0; });
		video.addEventListener('ended', again);
		video.addEventListener('error', () => { if (!player && video.src) again(); });
		function stop() {
			over = true;
			clearTimeout(timer);
			drop();
			video.load();
			video.remove();
		}
		start();
		return stop;
	}

	const stage = $('#preview .stage[data-room]');
	if (stage) {
		const play = $('.play', stage);
		play.hidden = false;
		const begin = () => {
			play.hidden = true;
			preview(stage, stage.dataset.room);
		};
		play.addEventListener('click', begin);
		if (location.hash === '#preview') play.focus();
	}

	const screen = $('#screen');
	let stop = null;
	document.addEventListener('click', (e) => {
		const peek = e.target.closest('[data-peek]');
		if (!peek || e.ctrlKey || e.metaKey || e.shiftKey || e.button) return;
		e.preventDefault();
		$('h2', screen).textContent = peek.dataset.peek;
		screen.showModal();
		stop = preview($('.stage', screen), peek.dataset.peek);
	});
	screen.addEventListener('close', () => {
		stop?.();
		stop = null;
		$('.stage', screen).replaceChildren();
	});
})();
