package main

import (
	"testing"
	"time"

	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/bilibili"
)

// One below each cap, the cap, and one above; and what is taken can be cut into chunks.
func TestSubmittable(t *testing.T) {
	for _, c := range []struct {
		segment time.Duration
		size    int64
		ok      bool
	}{
		{longestSubmitted - time.Second, 4 << 30, true}, {longestSubmitted, 4 << 30, true}, {longestSubmitted + time.Second, 4 << 30, false},
		{time.Hour, largestSubmitted - 1, true}, {time.Hour, largestSubmitted, true}, {time.Hour, largestSubmitted + 1, false},
	} {
		if err := submittable(c.segment, c.size); (err == nil) != c.ok {
			t.Errorf("%v, %d bytes: %v", c.segment, c.size, err)
		}
	}
	target, err := bilibili.New(bilibili.Config{ID: "bilibili:test", Cookies: "nowhere.json"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := uploader.ChunkSize(target.Limits(), -1, largestSubmitted); err != nil {
		t.Error(err)
	}
}
