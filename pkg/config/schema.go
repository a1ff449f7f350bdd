package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// patterns of texts that have a grammar, by key. They are a help while somebody types; Load is the judge.
var patterns = map[string]string{
	"segment": duration0, "grace": duration0, "keep": duration0, "stop-grace": duration0, "timeout": duration0,
	"max-size": size0, "min-free": size0, "stop-free": size0,
	"window": `^\s*\d{1,2}:\d{2}-\d{1,2}:\d{2}([ ,]+\d{1,2}:\d{2}-\d{1,2}:\d{2})*\s*$`,
	"listen": `:\d+$`,
}

const (
	duration0 = `^\+?(0|(\d+(\.\d*)?(ns|us|µs|μs|ms|s|m|h)|\.\d+(ns|us|µs|μs|ms|s|m|h))+)$`
	size0     = `^\s*[0-9.]+\s*([bB]|[kKmMgGtT]([iI]?[bB])?)?\s*$`
)

// Schema is the JSON schema of the file, for editors.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true, FieldNameTag: "toml", RequiredFromJSONSchemaTags: true,
		Namer: func(t reflect.Type) string { return strings.ToLower(strings.TrimPrefix(t.Name(), "raw")) },
	}
	s := r.Reflect(&rawFile{})
	s.Title, s.Description = "liverec", "The config file of `liverec serve`."
	all := []*jsonschema.Schema{s}
	for _, d := range s.Definitions {
		all = append(all, d)
	}
	for _, d := range all {
		if d.Properties == nil {
			continue
		}
		for p := d.Properties.Oldest(); p != nil; p = p.Next() {
			if pat, ok := patterns[p.Key]; ok {
				p.Value.Pattern = pat
			}
		}
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make the schema of the config file: %w", err)
	}
	return append(out, '\n'), nil
}
