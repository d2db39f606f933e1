package onepassword

import (
	"encoding/json"
	"testing"
)

// FuzzText holds the decoder against encoding/json.
func FuzzText(f *testing.F) {
	for _, s := range []string{`""`, `"plain"`, `"a\"b\\c\/d\b\f\n\r\t"`, `"\u00e9\u20AC"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\ud83d\ude00"`, `"\ude00\u0041"`, "\"a\xffb\"", `"\ufffd"`, "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want *string
		wantErr := json.Unmarshal(data, &want)
		var got text
		err := json.Unmarshal(data, &got)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", data, err, wantErr)
		}
		if err != nil || want == nil {
			return
		}
		b, err := got.Bytes()
		if err != nil || string(b) != *want {
			t.Errorf("%q is %q, %v; want %q", data, b, err, *want)
		}
	})
}
