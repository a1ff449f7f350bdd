package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// What the browser gets. htmx.min.js and hx-sse.min.js are of the npm package htmx.org 4.0.1, uPlot of uplot 1.6.32,
// mpegts.js of mpegts.js 1.8.2: the built files, unchanged, with their licences beside them.
//
//go:embed assets/*.js assets/*.css assets/*.svg
var assetFiles embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

// licences of what is built in; the pages link to none of them, but whoever has the program has them.
//
//go:embed assets/licences/*.txt
var licences embed.FS

// assets are files that never change under their name: the hash of what is in them is part of it.
type assets struct {
	names map[string]string // "app.css" to "/assets/app.0123456789ab.css"
	files map[string]asset  // by the last part of that
}

type asset struct {
	kind   string
	tag    string
	plain  []byte
	packed []byte // gzip, nil where it would save nothing
}

// extension of htmx stands behind it in one file: htmx looks through the page as soon as it has run, and an extension that
// came later would not be asked.
const extension = "hx-sse.min.js"

// builtIn is made once for a process: compressing takes longer than all else that New does.
var builtIn = sync.OnceValues(loadAssets)

func loadAssets() (*assets, error) {
	a := &assets{names: map[string]string{}, files: map[string]asset{}}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, fmt.Errorf("list the built-in assets: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || e.Name() == extension {
			continue
		}
		b, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the built-in asset %s: %w", e.Name(), err)
		}
		if e.Name() == "htmx.min.js" {
			more, err := assetFiles.ReadFile("assets/" + extension)
			if err != nil {
				return nil, fmt.Errorf("read the built-in asset %s: %w", extension, err)
			}
			b = append(append(b, ";\n"...), more...)
		}
		sum := sha256.Sum256(b)
		ext := path.Ext(e.Name())
		hash := hex.EncodeToString(sum[:6])
		name := strings.TrimSuffix(e.Name(), ext) + "." + hash + ext
		kind := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[ext]
		if kind == "" {
			return nil, fmt.Errorf("the built-in asset %s has no known type", e.Name())
		}
		var z bytes.Buffer
		zw, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		_, _ = zw.Write(b) // into memory
		_ = zw.Close()
		f := asset{kind: kind, tag: `"` + hash + `"`, plain: b}
		if z.Len() < len(b)*9/10 {
			f.packed = z.Bytes()
		}
		a.names[e.Name()], a.files[name] = "/assets/"+name, f
	}
	return a, nil
}

// url is the address of a built-in file, for templates.
func (a *assets) url(name string) (string, error) {
	u, ok := a.names[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %s", name)
	}
	return u, nil
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.PathValue("file")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	a.send(w, r, f, "public, max-age=31536000, immutable")
}

func (a *assets) icon(w http.ResponseWriter, r *http.Request) {
	a.send(w, r, a.files[path.Base(a.names["icon.svg"])], "public, max-age=86400")
}

func (a *assets) send(w http.ResponseWriter, r *http.Request, f asset, keep string) {
	h := w.Header()
	h.Set("Cache-Control", keep)
	h.Set("ETag", f.tag)
	h.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	b := f.plain
	if f.packed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		b = f.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // who does not read it is gone
}
