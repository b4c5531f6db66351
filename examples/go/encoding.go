package validator

import (
	"encoding/base64"
	"encoding/json/v2"
	"errors"
)

const maxDepth = 16

var base64url = base64.RawURLEncoding.Strict()

// decodeBase64url decodes base64url without padding. Each byte string has exactly one text.
func decodeBase64url(text string) ([]byte, error) {
	for _, c := range text { // the decoder skips line breaks
		if c == '\n' || c == '\r' {
			return nil, errors.New("a line break in base64url")
		}
	}
	return base64url.DecodeString(text)
}

// parseObject parses a JSON object. The package json/v2 refuses duplicate names and text that is not UTF-8.
func parseObject(data []byte) (map[string]any, error) {
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	if deeperThan(object, maxDepth) {
		return nil, errors.New("nested too deep")
	}
	return object, nil
}

func deeperThan(value any, levels int) bool {
	var members []any
	switch value := value.(type) {
	case map[string]any:
		for _, member := range value {
			members = append(members, member)
		}
	case []any:
		members = value
	default:
		return false
	}
	if levels == 0 {
		return true
	}
	for _, member := range members {
		if deeperThan(member, levels-1) {
			return true
		}
	}
	return false
}
