module github.com/liverec/liverec/e2e

go 1.26.8

require (
	github.com/liverec/liverec v0.0.0
	go.yaml.in/yaml/v3 v3.0.5
)

replace github.com/liverec/liverec => ../
