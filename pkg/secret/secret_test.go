package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/secret"
)

func TestI10_NoPrintableForm(t *testing.T) {
	const planted = "hunter2hunter2"
	s := secret.New(planted)
	var log bytes.Buffer
	l := zerolog.New(&log)
	l.Info().Stringer("a", s).Interface("b", s).Any("c", struct{ S secret.String }{s}).Msg("")
	j, err := json.Marshal(map[string]any{"v": s, "p": &s})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join([]string{log.String(), string(j), fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, &s, s, s, s),
		fmt.Sprintf("%+v", struct{ S secret.String }{s})}, "\n")
	if strings.Contains(all, planted) {
		t.Errorf("the secret stands in:\n%s", all)
	}
	if s.Reveal() != planted || s.IsZero() || !secret.New("").IsZero() {
		t.Error("Reveal or IsZero lie")
	}
}
