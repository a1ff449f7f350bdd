package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/liverec/liverec/"

type file struct {
	path string // "pkg/ledger/ledger.go"
	dir  string
	test bool
	fset *token.FileSet
	ast  *ast.File
}

var loaded []file // by the first test that asks

func load(t *testing.T) []file {
	t.Helper()
	if loaded != nil {
		return loaded
	}
	root := filepath.Join("..", "..")
	var files []file
	fset := token.NewFileSet()
	for _, top := range []string{"cmd", "pkg", "recorder", "uploader", "pipeline"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(p, ".go") {
				return err
			}
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			a, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			files = append(files, file{rel, path.Dir(rel), strings.HasSuffix(rel, "_test.go"), fset, a})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 30 {
		t.Fatalf("only %d files were found", len(files))
	}
	loaded = files
	return files
}

func under(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

// forbiddenImport says why a file may not import something of ours, or "".
func forbiddenImport(dir, imp string, test bool) string {
	if dir == "pkg/segment" && !test {
		return "pkg/segment imports the standard library only"
	}
	if dir == "pipeline/pipelinetest" && test {
		return "" // the whole house in one test
	}
	if (imp == "pkg/ledger" || imp == "pkg/config") && !under(dir, "cmd") && dir != imp {
		return "only cmd imports " + imp + ": no stage goes around its own Journal"
	}
	for _, stage := range []string{"recorder", "uploader", "pipeline"} {
		if under(imp, stage) && !under(dir, stage) && !under(dir, "cmd") {
			return "only cmd and " + stage + " itself import " + imp
		}
	}
	if under(imp, "cmd") {
		return "nobody imports cmd"
	}
	return ""
}

func TestFloorPlan(t *testing.T) {
	for _, f := range load(t) {
		for _, spec := range f.ast.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(imp, module) {
				if imp == "log" && f.path == "pkg/web/errorlog.go" {
					continue // http.Server takes its type and no other; it ends in our logger
				}
				if imp == "log" || imp == "log/slog" {
					t.Errorf("%s imports %s: logs go through the zerolog.Logger that was handed in", f.path, imp)
				}
				continue
			}
			if why := forbiddenImport(f.dir, strings.TrimPrefix(imp, module), f.test); why != "" {
				t.Errorf("%s imports %s: %s", f.path, imp, why)
			}
		}
	}
}

// The plan can say no: these are the walls.
func TestFloorPlanReportsPlantedImports(t *testing.T) {
	for _, c := range [][2]string{
		{"pkg/media", "recorder"}, {"pkg/ledger", "recorder"}, {"recorder", "uploader"}, {"uploader/s3", "pipeline/control"},
		{"pipeline", "recorder"}, {"recorder", "pkg/ledger"}, {"pkg/segment", "pkg/failure"}, {"pkg/status", "cmd/liverec"},
	} {
		if forbiddenImport(c[0], c[1], false) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
	for _, c := range [][2]string{{"cmd/liverec", "pkg/ledger"}, {"recorder/httpflv", "pkg/media"}, {"uploader/wrap", "uploader"}} {
		if why := forbiddenImport(c[0], c[1], false); why != "" {
			t.Errorf("%s may not import %s: %s", c[0], c[1], why)
		}
	}
}

// calls that stand in few places only, with the places.
var homes = map[string][]string{
	"os.Remove":            {"pkg/durable"},
	"os.RemoveAll":         {"pkg/durable"},
	"os.Rename":            {"pkg/durable"},
	"os.Exit":              {"cmd/liverec/main.go"},
	"log.Fatal":            {},
	"http.NewRequest":      {},
	"http.Get":             {},
	"http.Post":            {},
	"http.DefaultClient":   {},
	"exec.Command":         {"pipeline/hook"},
	"exec.CommandContext":  {"pipeline/hook", "recorder/site/external"}, // streamlink and yt-dlp say where a stream is, and only that
	"time.Sleep":           {},
	"os.Getenv":            {"cmd", "uploader/s3"}, // the usual AWS_* variables
	"os.LookupEnv":         {"cmd", "uploader/s3"},
	"os.Args":              {"cmd"},
	"context.TODO":         {},
	"syscall.Unlink":       {"pkg/ctl"}, // its own socket
	"flv.NewDecoder":       {},          // go-flv's: no foreign byte reaches it
	"tag.DecodeScriptData": {},
}

// files with a go statement or a WaitGroup.Go, each with the owner of what it starts.
var starters = []string{
	"cmd/", "pkg/supervise/", "pkg/ledger/", "pkg/liveroom/", "recorder/", "uploader/", "pipeline/",
	"pkg/bilibili/bilitest/", // the test server; Close waits
}

func TestI12_CallsStandWhereTheyBelong(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || x.Obj != nil {
					return true
				}
				call := x.Name + "." + n.Sel.Name
				places, known := homes[call]
				if known && !slices.ContainsFunc(places, func(p string) bool { return f.path == p || under(f.dir, p) }) {
					t.Errorf("%s: %s has no home here, only in %v", f.fset.Position(n.Pos()), call, places)
				}
			case *ast.GoStmt:
				if !slices.ContainsFunc(starters, func(p string) bool { return strings.HasPrefix(f.path, p) }) {
					t.Errorf("%s: a goroutine is started here, which no owner waits for", f.fset.Position(n.Pos()))
				}
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: there is no init", f.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// Media leaves the disk through one door (I1).
func TestI1_OnlyReclaimRemovesMedia(t *testing.T) {
	may := []string{"pkg/durable", "pipeline/reclaim", // media
		"recorder", "uploader/localdir", "uploader/sftp", "pkg/ledger"} // what never held media that counts: void parts, temporary names, the reserve
	for _, f := range load(t) {
		if f.test || slices.ContainsFunc(may, func(p string) bool { return under(f.dir, p) }) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				if s, ok := c.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Remove" && len(c.Args) == 1 {
					t.Errorf("%s: a file is removed here", f.fset.Position(c.Pos()))
				}
			}
			return true
		})
	}
}

// What the Makefile tests without the race detector starts no goroutine and shares nothing.
func TestPurePackages(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(strings.ReplaceAll(string(text), "\\\n", ""), "\nPURE := ")
	line, _, _ := strings.Cut(rest, "\n")
	pure := strings.Fields(line)
	if !ok || len(pure) < 5 {
		t.Fatalf("the Makefile names %q", pure)
	}
	met := map[string]bool{}
	for _, f := range load(t) {
		if !slices.Contains(pure, f.dir) {
			continue
		}
		met[f.dir] = true
		if f.test {
			continue // its helpers wait for what they start
		}
		for _, spec := range f.ast.Imports {
			if imp := strings.Trim(spec.Path.Value, `"`); imp == "sync" || imp == "sync/atomic" {
				t.Errorf("%s imports %s: take %s out of PURE in the Makefile", f.path, imp, f.dir)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt, *ast.ChanType:
				t.Errorf("%s: a goroutine or a channel: take %s out of PURE in the Makefile", f.fset.Position(n.Pos()), f.dir)
			}
			return true
		})
	}
	for _, dir := range pure {
		if !met[dir] {
			t.Errorf("the Makefile names %s, which does not exist", dir)
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	docs, seen := map[string]string{}, map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			continue
		}
		seen[f.dir] = true
		if f.ast.Doc != nil {
			docs[f.dir] += f.ast.Doc.Text()
		}
	}
	for dir := range seen {
		if len(docs[dir]) < 80 {
			t.Errorf("%s: its package comment says too little: %q", dir, docs[dir])
		}
	}
}

func TestTopLevelIsTheLayout(t *testing.T) {
	known := []string{"cmd", "pkg", "pipeline", "recorder", "uploader", "go.mod", "go.sum", "Dockerfile", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "docs", "deploy", "e2e"}
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(known, e.Name()) && e.Name() != "bin" && e.Name() != "liverec" &&
			!strings.HasPrefix(e.Name(), "liverec-") {
			t.Errorf("%s does not belong to the layout", e.Name())
		}
	}
}
