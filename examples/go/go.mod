module example.com/token-service/validator

go 1.27
