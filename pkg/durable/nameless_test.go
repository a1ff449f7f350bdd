package durable_test

import (
	"os"
	"testing"

	"github.com/liverec/liverec/pkg/durable"
)

func TestNameless(t *testing.T) {
	dir := t.TempDir()
	f, err := durable.Nameless(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("here"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "here" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is in the folder, %v", left, err)
	}
	if _, err := durable.Nameless(dir + "/none"); err == nil {
		t.Error("a file in a folder that is not there")
	}
}

func TestReserve(t *testing.T) {
	f, err := durable.Nameless(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const n = 3<<20 + 5
	if err := durable.Reserve(f, n); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != n {
		t.Errorf("%d bytes, want %d, %v", info.Size(), n, err)
	}
	if err := durable.Reserve(f, 1<<60); err == nil {
		t.Error("more was reserved than any disk has")
	}
	none, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if err := durable.Reserve(none, n); err == nil {
		t.Error("bytes of no file were reserved")
	}
}
