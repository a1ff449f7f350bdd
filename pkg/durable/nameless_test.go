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
