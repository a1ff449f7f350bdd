module github.com/liverec/liverec/e2e

go 1.26.8

require (
	github.com/bluenviron/gohlslib/v2 v2.2.2
	github.com/bluenviron/mediacommon/v2 v2.4.0
	github.com/chromedp/chromedp v0.23.0
	github.com/liverec/liverec v0.0.0
	go.yaml.in/yaml/v3 v3.0.5
)

require (
	github.com/abema/go-mp4 v1.4.1 // indirect
	github.com/asticode/go-astikit v0.30.0 // indirect
	github.com/asticode/go-astits v1.13.0 // indirect
	github.com/chromedp/cdproto v0.159.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/google/uuid v1.6.0 // indirect
)

replace github.com/liverec/liverec => ../
