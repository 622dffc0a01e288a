
?
xPlaceholder*
dtype0* 
shape:ÿÿÿÿÿÿÿÿÿ
 
CholeskyCholeskyx*
T0

ReluReluCholesky*
T0
2
MatrixDeterminantMatrixDeterminantx*
T0

NegNegx*
T0
%

of_factorsIdentityRelu*
T0
/
of_moreIdentityMatrixDeterminant*
T0
!
of_fineIdentityNeg*
T0"ª